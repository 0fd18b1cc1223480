"""Features, computed once: keyed, kept with the extra ``cache``, resumed (workstation side)."""

from edgetl.features.extract import Extraction, ExtractOptions, Skipped, extract
from edgetl.features.key import feature_key
from edgetl.features.store import FeatureStore

__all__ = ["ExtractOptions", "Extraction", "FeatureStore", "Skipped", "extract", "feature_key"]
