"""Image detection datasets: COCO, VOC and YOLO labels, image decoding and cache, letterbox input, augmentation."""

from registry import import_modules

import_modules(__name__, __path__)
