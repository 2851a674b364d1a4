"""Check before training or evaluation whether a protocol leaves ground truth in a split."""

from __future__ import annotations

from typing import Any

from registry import UserError

from .protocols import get_protocol


def check_truth(protocol: str, ground_truth: dict[str, Any], split: str) -> list[str]:
    """Warnings about classes whose AP is undefined under `protocol`: those without a box that counts.

    UserError if the split has boxes and none of them counts, or if the protocol does not apply to such ground truth.
    """
    rules = get_protocol(protocol)
    counted, _ = rules.counted(ground_truth, [])
    boxes = [a for a in counted["annotations"] if not (a.get("iscrowd") or a.get("difficult"))]
    total, images = len(ground_truth["annotations"]), len(ground_truth["images"])
    if not total:
        return [f"split {split!r}: none of its {images} images has a box: nothing can be found, and AP is undefined"]
    if not boxes:
        raise UserError(
            f"split {split!r}: the protocol {protocol} leaves none of its {total} boxes in {images} images to be found"
            f"{rules.why_none(ground_truth)}. Its rule: {rules.rule}. Choose another eval.protocol or --protocol (raw "
            "counts every box), or another split"
        )
    found = {a["category_id"] for a in boxes}
    absent = [repr(category["name"]) for category in ground_truth["categories"] if category["id"] not in found]
    if not absent:
        return []
    names = ", ".join(absent[:5]) + (f" and {len(absent) - 5} more" if len(absent) > 5 else "")
    return [
        f"split {split!r}: no box counts under {protocol} of {names}: AP of {'these' if absent[1:] else 'it'} is "
        "undefined, and left out of the mean"
    ]
