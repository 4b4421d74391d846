"""A configuration as one value per flag, as the command line has it."""

from collections.abc import Hashable, Mapping
from typing import Any


def flatten(config: Mapping[str, Any]) -> dict[str, Hashable]:
    """Nested configuration to one value per flag: ``model.behavior: MAPROPS``, ``model.behavior.kl_cutoff: 0.3``.

    ``class_path`` becomes the class's name, of other packages' classes the path, too: one that is called like one of
    ours is another. ``init_args`` disappears, as on the command line; lists become text.
    """
    flat: dict[str, Hashable] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            class_path = value.get("class_path")
            if class_path is not None:
                path = str(class_path)
                flat[str(key)] = path.rpartition(".")[2] if path.startswith("lit_maprops.") else path
                value = value.get("init_args") or {}
                if not isinstance(value, Mapping):
                    raise ValueError(f"init_args of {key} are no keys and values")
            flat |= {f"{key}.{inner}": item for inner, item in flatten(value).items()}
        else:
            fits = isinstance(value, (float, bool, str, type(None))) or (isinstance(value, int) and abs(value) < 2**63)
            flat[str(key)] = value if fits else str(value)
    return flat
