"""What a matrix says, as a tracker keeps it: one level of keys, and short values."""

from __future__ import annotations

from importlib.metadata import version

from segbench.config.matrix import Matrix, Recipe


def config_of(matrix: Matrix) -> dict[str, str | int | float | bool]:
    """Return the parts of a matrix by their names; recipes that differ stand below the defense that they train."""
    found: dict[str, str | int | float | bool] = {
        "segbench": version("segbench"),
        "title": matrix.title,
        "datasets": ", ".join(each.short for each in matrix.datasets),
        "models": ", ".join(each.short for each in matrix.models),
        "defenses": ", ".join(each.defense.short for each in matrix.defenses),
        "networks": ", ".join(network.name for network in matrix.networks),
        "attacks": ", ".join(each.short for each in matrix.attacks),
        "seeds": ", ".join(map(str, matrix.seeds)),
        "protocol": matrix.protocol.short,
        "split": matrix.split,
        "attack_seed": matrix.attack_seed,
        "precision": matrix.precision,
    }
    if matrix.limit is not None:
        found["limit"] = matrix.limit
    if not matrix.models:
        return found
    recipes = {trained.defense.short: trained.recipe for trained in matrix.defenses}
    alike = len({recipe.model_dump_json() for recipe in recipes.values()}) == 1
    for defense, recipe in recipes.items():
        found |= _flat("recipe" if alike else f"recipe/{defense}", recipe)
    return found


def _flat(prefix: str, recipe: Recipe) -> dict[str, str | int | float | bool]:
    content = recipe.model_dump(mode="json")
    content |= {f"augmentation/{key}": value for key, value in content.pop("augmentation").items()}
    plain = {key: value for key, value in content.items() if value is not None}
    return {
        f"{prefix}/{key}": value if isinstance(value, str | int | float | bool) else str(value)
        for key, value in plain.items()
    }
