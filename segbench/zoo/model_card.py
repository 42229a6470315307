"""The model card of a zoo on the Hugging Face Hub: a page for people, with metadata that the Hub reads.

Source: https://huggingface.co/docs/hub/model-cards
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import yaml

from segbench.zoo.cards import Card, Number

MARK = "<!-- `segbench zoo push` writes this page; remove this line to keep a page of your own. -->"
ON_THE_HUB = (
    *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "mpl-2.0", "gpl-2.0", "gpl-3.0", "agpl-3.0", "lgpl-3.0"),
    *("cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-4.0"),
    *("unlicense", "unknown"),
)
"""Licences that the Hub knows by an identifier."""


def model_card(cards: Sequence[Card], address: str) -> str:
    """Return the page, Markdown after metadata in YAML.

    Args:
        cards: the cards of all networks of the zoo, in order.
        address: the zoo's address, hf://OWNER/NAME.
    """
    metadata = yaml.safe_dump(_metadata(cards), sort_keys=False, allow_unicode=True, width=1000)
    sections = "\n".join(_section(card, address) for card in cards)
    noun = "network" if len(cards) == 1 else "networks"
    return (
        f"---\n{metadata}---\n{MARK}\n\n# {address.rpartition('/')[2]}\n\n"
        f"{len(cards)} {noun} for semantic segmentation, with what adversarial attacks leave of their mIoU. segbench "
        "trained and measured them; each folder has the weights as safetensors, and a card with every option of the "
        "architecture, the training and the evaluation.\n\n"
        f"{sections}\n## Limits\n\nA robust score is an upper bound: these attacks did not find more. A network is "
        "robust only against what it was attacked with, within that bound, on such data.\n"
    )


def _metadata(cards: Sequence[Card]) -> dict[str, Any]:
    licences = {card.licence.lower() for card in cards}
    licence = licences.pop() if len(licences) == 1 else "several"
    found: dict[str, Any] = {"license": licence if licence in ON_THE_HUB else "other"}
    if licence not in ON_THE_HUB:
        found["license_name"] = licence
    words = [word for card in cards for word in (card.model.name, card.defense.name, _dataset(card)) if word]
    return {
        **found,
        "library_name": "segbench",
        "pipeline_tag": "image-segmentation",
        "tags": list(dict.fromkeys(["semantic-segmentation", "adversarial-robustness", *words])),
        "model-index": [{"name": card.name, "results": list(_results(card))} for card in cards if card.numbers],
    }


def _results(card: Card) -> Iterable[dict[str, Any]]:
    splits = dict.fromkeys(number.split for number in card.numbers)
    kind = card.dataset.name if card.dataset else "unknown"
    for split in splits:
        yield {
            "task": {"type": "image-segmentation", "name": "Semantic segmentation"},
            "dataset": {
                "name": _dataset(card),
                "type": kind,
                "split": split,
            },
            "metrics": [_metric(number) for number in card.numbers if number.split == split],
        }


def _metric(number: Number) -> dict[str, Any]:
    return {"type": "mean_iou", "name": f"mIoU in %, {_under(number)}, {number.protocol}", "value": number.miou}


def _section(card: Card, address: str) -> str:
    facts = {
        "architecture": f"`{card.model.short}`",
        "defense": f"`{card.defense.short}`",
        "trained on": f"`{card.dataset.short}`" if card.dataset else "not known",
        "classes": f"{card.num_classes}" + (f" ({_plain(', '.join(card.classes))})" if card.classes else ""),
        "licence of the weights": _plain(card.licence),
        "source": _plain(card.source or "trained by segbench"),
        "SHA-256 of the weights": f"`{card.sha256}`",
    }
    rows = "".join(
        f"| {_plain(_under(number))} | {_plain(number.protocol)} | {_plain(number.split)} | {number.n_images} "
        f"| {number.miou:.1f} | {number.aacc:.1f} |\n"
        for number in card.numbers
    )
    head = "| under | protocol | split | images | mIoU, % | pixel accuracy, % |\n"
    head += "| --- | --- | --- | ---: | ---: | ---: |\n"
    return (
        f"## {card.name}\n\n"
        + "".join(f"- {name}: {text}\n" for name, text in facts.items())
        + (f"\n{head}{rows}" if rows else "")
        + "\n```python\nfrom segbench.zoo.networks import load\n\n"
        + f'network = load("{card.name}", ["{address}"])  # images in [0, 1] -> logits\n```\n'
    )


def _dataset(card: Card) -> str:
    return card.dataset.short if card.dataset else card.name.partition("/")[0]


def _under(number: Number) -> str:
    return "clean images" if number.setting == "clean" else number.attack


def _plain(text: str) -> str:
    """Return text as Markdown that shows it as it is, on one line."""
    return "".join(f"\\{sign}" if sign in "\\`*_{}[]<>#|!&" else sign for sign in " ".join(text.split()))
