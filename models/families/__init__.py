"""Published families of detectors: one file each, blocks, network, registered sizes and weight names."""

from registry import import_modules

import_modules(__name__, __path__)
