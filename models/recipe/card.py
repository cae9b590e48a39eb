"""CARD.md from card.md: @{name} is a figure of figures.toml or of the bundle, and what stands between
<!-- if NAME --> and <!-- end --> is kept for bundles with that part."""

import re
import tomllib
from pathlib import Path

NOT_MEASURED = "not measured yet"
LICENCES = {"facenet": "MIT", "yunet": "Apache-2.0", "centerface": "MIT", "liveness": "Apache-2.0"}


def licence(kind: str, live: bool) -> str:
    """SPDX expression over all networks of a bundle."""
    parts = ["facenet", kind] + ["liveness"] * live
    return " AND ".join(dict.fromkeys(LICENCES[part] for part in parts))


def fill(folder: Path, manifest: dict, kind: str, live: bool, lowest_cosine: float) -> str:
    figures = tomllib.loads((folder / "figures.toml").read_text())
    facts = {
        "name": manifest["name"],
        "version": manifest["version"],
        "licence": manifest["licence"],
        "crop": describe(manifest["embedder"]["crop"]),
        "score_threshold": manifest["detector"]["score_threshold"],
        "lowest_cosine": f"{lowest_cosine:.4f}",
        "liveness_threshold": manifest.get("liveness_decision", {}).get("threshold", 0.5),
        "calibration": thresholds(manifest["calibration"]),
    }

    def value(match: re.Match) -> str:
        name = match[1]
        if name in facts:
            return str(facts[name])
        found = figures
        for key in name.replace("DETECTOR", kind).split("."):
            found = found.get(key, NOT_MEASURED) if isinstance(found, dict) else NOT_MEASURED
        if isinstance(found, dict):
            raise SystemExit(f"models: card.md asks for {name}, which is a table of figures.toml")
        return str(found) or NOT_MEASURED

    text = (folder / "card.md").read_text()
    parts = {kind, "live" if live else "not-live"} | ({"apache"} if "Apache" in manifest["licence"] else set())
    text = sections(text, parts)
    return re.sub(r"@\{([\w.-]+)\}", value, text)


def sections(text: str, kept: set[str]) -> str:
    pattern = re.compile(r"<!-- if ([\w-]+) -->\n(.*?)<!-- end -->\n", re.DOTALL)
    return pattern.sub(lambda match: match[2] if match[1] in kept else "", text)


def thresholds(tables: list[dict]) -> str:
    rates = [point["false_match_rate"] for point in tables[0]["points"]]
    heads = ["pooled looks", "pairs", *(f"{rate:g}" for rate in rates)]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for table in tables:
        by_rate = {point["false_match_rate"]: f"{point['similarity']:.3f}" for point in table["points"]}
        cells = [str(table["looks"]), f"{table['pairs']:,}", *(by_rate.get(rate, "") for rate in rates)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def describe(rule: dict) -> str:
    if rule["kind"] == "box":
        return f"the detector's box, its sides enlarged by {rule['margin'] * 100:.1f} %"
    if rule["kind"] == "square":
        return f"a square of {rule['scale']} times the box's longer side"
    return "five landmarks brought to a template by a similarity transform"
