"""Pretrained weights from where they are published: the local cache first, then the network.

It knows the two ways of fetching (the Hugging Face hub, and plain addresses through torch.hub) and
when the network may be used; it knows nothing about what is in the files. Files stay where those
libraries keep them.
"""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlparse

import torch

from edgetl._extras import require
from edgetl._paths import offline
from edgetl.errors import WeightsError

_SECONDS = 5  # to wait for a first answer; the libraries' own retries can take minutes


def fetch_from_hub(repository: str, filenames: tuple[str, ...], *, name: str) -> Path:
    """Get one file of a Hugging Face repository: the first of `filenames` that it has.

    Args:
        repository: ``owner/name``, with ``@revision`` after it where one is meant.
        filenames: Names to try, best first.
        name: The backbone's name, for messages.

    Raises:
        WeightsError: Nothing is cached and the hub can't be reached or may not be asked.
    """
    hub = require("huggingface_hub", extra="train")
    repository, _, revision = repository.partition("@")
    for filename in filenames:
        cached = hub.try_to_load_from_cache(repository, filename, revision=revision or None)
        if isinstance(cached, str):
            return Path(cached)
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    _check_reachable(endpoint, name=name)
    for filename in filenames:
        try:
            return Path(
                hub.hf_hub_download(
                    repository, filename, revision=revision or None, etag_timeout=_SECONDS
                )
            )
        except hub.errors.LocalEntryNotFoundError as error:  # what it makes of a lost connection
            raise _unreachable(name, str(error)) from error
        except hub.errors.EntryNotFoundError:
            continue
        except (hub.errors.HfHubHTTPError, OSError) as error:
            raise _unreachable(name, str(error)) from error
    raise WeightsError(
        f"{repository} on the hub has none of {', '.join(filenames)}; give {name}'s weights as a "
        "local file with --weights"
    )


def fetch_from_url(url: str, *, name: str) -> Path:
    """Get the file at an address, kept in torch.hub's folder of checkpoints.

    Raises:
        WeightsError: It is not cached, and the address can't be reached or may not be asked.
    """
    filename = Path(urlparse(url).path).name
    path = Path(torch.hub.get_dir()) / "checkpoints" / filename
    if path.is_file():
        return path
    _check_reachable(url, name=name)
    path.parent.mkdir(parents=True, exist_ok=True)
    # File names such as resnet50-11ad3fa6.pth carry the beginning of their sha256.
    match = torch.hub.HASH_REGEX.search(filename)
    try:
        torch.hub.download_url_to_file(
            url, str(path), hash_prefix=match.group(1) if match else None, progress=False
        )
    except (OSError, RuntimeError) as error:  # RuntimeError: another hash than in the name
        raise _unreachable(name, str(error)) from error
    return path


def _check_reachable(url: str, *, name: str) -> None:
    """Ask once, briefly; whatever the server answers, it is there."""
    if offline():
        raise _unreachable(name, "EDGETL_OFFLINE or HF_HUB_OFFLINE is set")
    request = urllib.request.Request(url, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=_SECONDS).close()
    except urllib.error.HTTPError as error:
        error.close()
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise _unreachable(name, f"{urlparse(url).hostname}: {reason}") from error


def _unreachable(name: str, reason: str) -> WeightsError:
    return WeightsError(
        f"the pretrained weights of {name} are not on this machine and can't be downloaded "
        f"({reason.strip().splitlines()[0]}); give a local .safetensors or .pth file with "
        "--weights (weights= in Python)"
    )
