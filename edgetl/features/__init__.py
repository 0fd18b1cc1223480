"""Features, computed once: keyed, stored, resumed (workstation side; kept with the extra ``cache``)."""

from edgetl.features.extract import Extraction, ExtractOptions, Skipped, extract
from edgetl.features.key import feature_key
from edgetl.features.store import FeatureStore

__all__ = ["ExtractOptions", "Extraction", "FeatureStore", "Skipped", "extract", "feature_key"]
