"""What was evaluated: checkpoint, data, protocol, settings, commit."""

from __future__ import annotations

from typing import Any

from .markup import Markup, facts, number, tag

HEADLINE = ("AP", "AP50", "AP75")


def headline(metrics: dict[str, Any]) -> Markup:
    """AP in large figures, with what they are of."""
    shown = [(key, metrics[key]) for key in HEADLINE if metrics.get(key) is not None]
    boxes = Markup("".join(tag("div", tag("b", number(value)) + tag("span", key)) for key, value in shown))
    none = "" if shown else "No box of this split counts under the protocol, so no AP is defined."
    return tag("p", metrics["rule"], class_="note") + (tag("div", boxes, class_="headline") + none)


def in_words(value: Any, between: str = " ") -> str:
    """A setting without the marks of Python: {"name": "ilif", "D": 4} as "ilif (D 4)". None is left out."""
    if not isinstance(value, dict):
        return str(value)
    name = value.get("name", "")
    of = [f"{key}{between}{in_words(v)}" for key, v in value.items() if key != "name" and v is not None]
    return f"{name} ({', '.join(of)})" if name and of else name or ", ".join(of)


def evaluated(metrics: dict[str, Any]) -> Markup:
    rows: list[tuple[str, Any]] = []
    if "model" in metrics:
        size = metrics.get("input_size")
        neuron = [f"neuron {in_words(metrics['neuron'])}"] if metrics["neuron"] else []
        rows += [
            ("checkpoint", f"{metrics['checkpoint']} ({metrics['weights']} weights {metrics['weights_digest']})"),
            ("model", ", ".join([metrics["model"], *neuron, f"T = {metrics['T']}"])),
            ("parameters", f"{metrics['parameters']:,}"),
            ("input", f"{' × '.join(map(str, size)) if size else 'rectangular'}, {metrics['precision']}"),
            ("trained", f"{metrics['epochs']} epochs, seed {metrics['seed']}"),
            ("detections", f"score ≥ {metrics['score_threshold']}, NMS IoU {metrics['nms_iou']}, at most "
                           f"{metrics['max_detections']} per image"),
        ]  # fmt: skip
    else:
        rows += [("detections", metrics["detections"]), ("compared", metrics["data"]["checked"])]
    if "conversion" in metrics:
        rows.append(("conversion", in_words(metrics["conversion"], ": ")))
    data = metrics["data"]
    of_clips = f" of {metrics['clips']} clips" if "clips" in metrics else ""
    rows += [
        ("data", ", ".join([*(data[key] for key in ("name", "root") if key in data), f"truth {data['fingerprint']}"])),
        ("split", f"{metrics['split']}: {metrics['images']} of {metrics['expected_images']} samples{of_clips}, "
                  f"{metrics['evaluated_images']} scored with {metrics['boxes']} boxes"),
        ("protocol", metrics["protocol"]),
        *((f"changed: {key}", f"{old} → {new}") for key, (old, new) in
          metrics["request"].get("config_changes", {}).items()),
    ]  # fmt: skip
    made = metrics["provenance"]
    commit = made["commit"] or "not of a git checkout"
    machine = made["machine"]
    rows += [
        ("command", tag("code", made["command"])),
        ("date", made["date"]),
        ("commit", commit + (", with changed source files" if made["dirty"] else "")),
        ("versions", ", ".join(f"{name} {version}" for name, version in made["versions"].items())),
        ("machine", ", ".join(str(machine[key]) for key in ("cpu", "gpu", "device") if key in machine)),
    ]
    return facts(rows, "evaluated-facts")
