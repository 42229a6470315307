"""The contract of an attack: a function of tensors, tagged by `@attack`.

A tagged function takes images in [0, 1] and returns adversarial images of the same shape. A *nested* attack is a
generator that yields its iterates: iterate k is the result of the k-step attack. An *ensemble* attack returns several
results by name, its parts; calling it returns the strongest part for each image.

Calling the tagged object runs the function under a guard (`attacks.tools.guard`): the network's mode, the parameters'
gradients and the global random state are the same afterwards.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import update_wrapper
from typing import Any, Generic, ParamSpec

import torch
from torch import Tensor, nn

from segbench.attacks.tools.budget import Access, Norm, ThreatModel
from segbench.attacks.tools.guard import guarded, prepared, stream_seed
from segbench.attacks.tools.noise import Generators, per_image

__all__ = ["CONTEXT", "Access", "Attack", "Batches", "BoundAttack", "Norm", "ThreatModel", "attack", "worst_part"]

Images = Tensor | Iterator[Tensor] | Mapping[str, Tensor]
Batches = Iterable[tuple[Tensor, Tensor]]

CONTEXT = ("model", "images", "masks", "ignore_index", "generator", "class_pixels", "perturbation")
"""Parameters that the caller of an attack provides; all others are options."""

P = ParamSpec("P")


@dataclass(eq=False)
class Attack(Generic[P]):
    """A tagged attack. Call it like the function that it wraps.

    Attributes:
        name: name in matrices and tables.
        version: increases whenever the same options give different images.
        function: the tagged function.
        nested: the function yields its iterates; iterate k is the result of `steps=k`.
        access: what the attack reads from the network: "none", "labels", "logits" or "gradients".
        minimises: norm that a minimum-norm attack (such as DAG) minimises, else None. Without an eps, the result of
            such an attack is the distance of its images.
        ensemble: the function returns several results by name; see `parts`.
        fit: function that computes a universal perturbation from training batches, else None; see `BoundAttack.fit`.
        region: function that returns the pixels that the attack may change, else None; see `BoundAttack.allowed`.
        objects: function that returns the objects that the attack hides, else None; see `BoundAttack.hidden`.
    """

    name: str
    version: int
    function: Callable[P, Images]
    nested: bool
    access: Access
    minimises: Norm | None = None
    ensemble: bool = False
    fit: Callable[..., Tensor] | None = None
    region: Callable[..., Tensor] | None = None
    objects: Callable[..., Tensor] | None = None

    @property
    def kind(self) -> str:
        """The catalog's kind of component: "attack"."""
        return "attack"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Tensor:
        """Return the adversarial images, (N, 3, H, W).

        Every attack accepts a `generator`, also if its function takes none: the generator then only determines the
        random numbers that the network draws in its own forward pass (see `attacks.tools.guard`).
        """
        bound, generator = self._bound(*args, **kwargs)
        with prepared(bound.arguments, generator):
            made = self.function(*bound.args, **bound.kwargs)
            if isinstance(made, Tensor):
                return made.detach()
            if isinstance(made, Mapping):
                ignore_index = bound.arguments["ignore_index"]
                return worst_part(bound.arguments["model"], made, bound.arguments["masks"], ignore_index=ignore_index)
            last = deque(made, maxlen=1)
            return last.pop().detach() if last else bound.arguments["images"]

    def iterates(self, at: Collection[int], *args: P.args, **kwargs: P.kwargs) -> dict[int, Tensor]:
        """Run a nested attack once, and return its images after each number of steps in `at`.

        Args:
            at: numbers of steps, none larger than the attack's `steps`.
            *args: the attack's arguments.
            **kwargs: the attack's options.
        """
        bound, generator = self._bound(*args, **kwargs)
        with prepared(bound.arguments, generator):
            made = self.function(*bound.args, **bound.kwargs)
            if not self.nested or isinstance(made, Tensor | Mapping):
                raise TypeError(f"{self.name} is not nested: run it once per number of steps")
            return {step: images.detach() for step, images in enumerate(made, 1) if step in at}

    def parts(self, *args: P.args, **kwargs: P.kwargs) -> dict[str, Tensor]:
        """Run an ensemble attack, and return the adversarial images of each of its parts by name."""
        bound, generator = self._bound(*args, **kwargs)
        with prepared(bound.arguments, generator):
            made = self.function(*bound.args, **bound.kwargs)
            if not isinstance(made, Mapping):
                raise TypeError(f"{self.name} is not an ensemble attack: it has no parts")
            return {name: images.detach() for name, images in made.items()}

    def _bound(self, *args: Any, **kwargs: Any) -> tuple[inspect.BoundArguments, Any]:
        """Bind the arguments of a call, and return them with the caller's generator."""
        signature, generator = inspect.signature(self.function), kwargs.get("generator")
        if "generator" not in signature.parameters:
            kwargs.pop("generator", None)
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return bound, generator

    def bind(self, **options: Any) -> BoundAttack:
        """Return the attack with fixed options, to be called on images later, such as `bim.bind(eps=4/255)`."""
        signature = inspect.signature(self.function).parameters
        known = {name: p.default for name, p in signature.items() if name not in CONTEXT}
        unknown = sorted(set(options) - set(known))
        if unknown:
            raise TypeError(f"{self.name} takes no {unknown[0]!r}; it takes {', '.join(known)}")
        return BoundAttack(self, {**known, **options})


@dataclass(frozen=True)
class BoundAttack:
    """An attack with all its options, as a matrix specifies it and a defense trains against it."""

    attack: Attack[...]
    options: Mapping[str, Any]

    def __call__(
        self,
        model: nn.Module,
        images: Tensor,
        masks: Tensor,
        *,
        ignore_index: int = 255,
        generator: torch.Generator | Generators | None = None,
        class_pixels: Tensor | None = None,
        perturbation: Tensor | None = None,
    ) -> Tensor:
        """Attack a batch: images (N, 3, H, W) in [0, 1], masks (N, H, W); see `Attack.__call__`."""
        context = self._context(ignore_index, generator, class_pixels, perturbation)
        return self.attack(model, images, masks, **self.options, **context)

    def iterates(
        self,
        at: Collection[int],
        model: nn.Module,
        images: Tensor,
        masks: Tensor,
        *,
        ignore_index: int = 255,
        generator: torch.Generator | Generators | None = None,
        class_pixels: Tensor | None = None,
    ) -> dict[int, Tensor]:
        """Run a nested attack on a batch once, and return its images after each number of steps in `at`."""
        context = self._context(ignore_index, generator, class_pixels, None)
        return self.attack.iterates(at, model, images, masks, **self.options, **context)

    def parts(
        self,
        model: nn.Module,
        images: Tensor,
        masks: Tensor,
        *,
        ignore_index: int = 255,
        generator: torch.Generator | Generators | None = None,
        class_pixels: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Run an ensemble attack on a batch, and return the images of each part; see `Attack.parts`."""
        context = self._context(ignore_index, generator, class_pixels, None)
        return self.attack.parts(model, images, masks, **self.options, **context)

    def fit(self, model: nn.Module, batches: Batches, *, ignore_index: int = 255) -> Tensor:
        """Compute the perturbation of a universal attack; pass it to every later call.

        Args:
            model: network, images -> logits.
            batches: pairs of images (N, 3, H, W) in [0, 1] and masks (N, H, W) of a training split, all of the same
                height and width; iterated once per epoch.
            ignore_index: label of void pixels.

        Returns:
            The perturbation, (3, H, W).
        """
        if self.attack.fit is None:
            raise TypeError(f"{self.attack.name} is not a universal attack: there is nothing to fit")
        with guarded(model, next(model.parameters(), torch.empty(0)).device, stream_seed(None, "fit")):
            return self.attack.fit(model, batches, ignore_index=ignore_index, **self.options).detach()

    def allowed(
        self, images: Tensor, masks: Tensor, *, ignore_index: int = 255, generator: Any = None
    ) -> Tensor | None:
        """Return the pixels that the attack may change, (N, H, W) bool; None if it may change all.

        Args:
            images: (N, 3, H, W) in [0, 1].
            masks: (N, H, W).
            ignore_index: label of void pixels.
            generator: the generators that the attack gets, one per image, before or after it has drawn from them.
        """
        if self.attack.region is None:
            return None
        generators = per_image(generator, len(images))
        return self.attack.region(images, masks.long(), ignore_index=ignore_index, generator=generators, **self.options)

    def hidden(self, masks: Tensor, *, ignore_index: int = 255) -> Tensor | None:
        """Return the number of the object that the attack hides at each pixel, 0 for none; None if it hides none.

        Args:
            masks: (N, H, W).
            ignore_index: label of void pixels.
        """
        if self.attack.objects is None:
            return None
        return self.attack.objects(masks.long(), ignore_index=ignore_index, **self.options)

    @property
    def needs_training_data(self) -> bool:
        """Whether the attack takes `class_pixels` or a `perturbation` from the training data, with these options."""
        if self.attack.fit is not None:
            return True
        balanced = self.options.get("loss", "balanced-masked-ce") == "balanced-masked-ce"
        return balanced and "class_pixels" in inspect.signature(self.attack.function).parameters

    def _context(
        self, ignore_index: int, generator: Any, class_pixels: Tensor | None, perturbation: Tensor | None
    ) -> dict[str, Any]:
        given = {
            "ignore_index": ignore_index,
            "generator": generator,
            "class_pixels": class_pixels,
            "perturbation": perturbation,
        }
        takes = inspect.signature(self.attack.function).parameters
        return {name: value for name, value in given.items() if name in takes or name == "generator"}

    @property
    def threat(self) -> ThreatModel:
        """The threat model of the attack, from its options `norm` and `eps`; of regions also `region` and `size`."""
        eps = self.options.get("eps")
        norm = self.options.get("norm", "linf") if eps is not None else None
        if self.attack.region is None:
            return ThreatModel(norm, eps, self.attack.access)
        region = self.options.get("region", "patch")
        area = self.options["size"] if region == "patch" else None
        return ThreatModel(norm, eps, self.attack.access, region if isinstance(region, str) else "map", area)


def attack(
    name: str,
    *,
    version: int = 1,
    nested: bool = False,
    access: Access = "gradients",
    minimises: Norm | None = None,
    ensemble: bool = False,
    fit: Callable[..., Tensor] | None = None,
    region: Callable[..., Tensor] | None = None,
    objects: Callable[..., Tensor] | None = None,
) -> Callable[[Callable[P, Images]], Attack[P]]:
    """Tag a function as an attack, so that the catalog finds it.

    Args:
        name: name in matrices and tables.
        version: increase it whenever the same options give different images.
        nested: the function yields its iterates; iterate k is the result of `steps=k`.
        access: what the attack reads from the network: "none", "labels", "logits" or "gradients".
        minimises: norm that the attack minimises, for minimum-norm attacks.
        ensemble: the function returns several results by name, and takes `ignore_index`.
        fit: function of (model, batches), `ignore_index` and the attack's options that returns the `perturbation` for
            the tagged function.
        region: function of (images, masks), `ignore_index`, `generator` and the attack's options that returns the
            pixels that may change, (N, H, W) bool. Such an attack has an option `region`, or `size`, that of a patch.
        objects: function of masks, `ignore_index` and the attack's options that returns the number of the object to
            hide at each pixel, (N, H, W), 0 for none.
    """

    def tag(function: Callable[P, Images]) -> Attack[P]:
        tagged = Attack(name, version, function, nested, access, minimises, ensemble, fit, region, objects)
        update_wrapper(tagged, function, updated=())
        return tagged

    return tag


def worst_part(model: nn.Module, parts: Mapping[str, Tensor], masks: Tensor, *, ignore_index: int = 255) -> Tensor:
    """Return, for every image, the part that leaves the fewest pixels correctly classified; of several, the first.

    Args:
        model: network, images -> logits.
        parts: adversarial images by name, each (N, 3, H, W).
        masks: (N, H, W).
        ignore_index: label of void pixels.
    """
    valid = masks != ignore_index
    with torch.no_grad():
        right = [((model(images).argmax(1) == masks) & valid).flatten(1).sum(1) for images in parts.values()]
    worst = torch.stack(right).argmin(0)
    return torch.stack(list(parts.values()))[worst, torch.arange(len(masks), device=masks.device)]
