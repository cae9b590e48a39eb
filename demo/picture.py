"""Makes docs/demo.svg, the picture in the README, from the output of a run of the demo.

    make demo 2>&1 | tee target/demo.txt
    python3 -m venv target/picture && target/picture/bin/pip install rich==15.0.0
    target/picture/bin/python demo/picture.py target/demo.txt docs/demo.svg

The run is shown as it was, but shortened: lines that repeat what others show are left out, long lines
are cut, and `[…]` stands for paths of the machine and for what was left out. The picture names no font and loads nothing.
"""

import io
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

WIDTH = 104  # columns
# White on dark blue-grey with a border: readable on a light and on a dark page.
THEME = TerminalTheme(
    (22, 27, 34), (230, 237, 243),
    [(72, 79, 88), (255, 123, 114), (126, 231, 135), (242, 204, 96), (121, 192, 255), (210, 168, 255), (86, 212, 221), (177, 186, 196)],
)
FORMAT = """\
<svg class="rich-terminal" viewBox="0 0 {terminal_width} {height}" xmlns="http://www.w3.org/2000/svg" role="img">
<title>Output of make demo</title>
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, "DejaVu Sans Mono", Consolas, Menlo, monospace; font-size: {char_height}px;
  line-height: {line_height}px; }}
{styles}
</style>
<defs>{lines}</defs>
<rect width="100%" height="100%" rx="8" fill="#161b22" stroke="#6e7681"/>
<g transform="translate(12, 12)">{backgrounds}
<g class="{unique_id}-matrix">{matrix}</g></g>
</svg>
"""
LEFT_OUT = "[…]"


def wanted(line: str) -> bool:
    """Whether the line is shown. The others repeat these for another person or in more detail."""
    if line.startswith("  listen |"):
        return "/event " in line
    if line.startswith("     run |"):
        return "liveness is off" in line or "] ready after" in line
    if line.startswith("  enroll |"):
        return "P001" in line or "Ada" in line
    return bool(line.strip()) and not line.startswith(("make", "== "))


def shortened(line: str) -> str:
    line = re.sub(r"(?<![\w.])/(?:[\w.-]+/)+[\w.-]+", LEFT_OUT, line)
    line = re.sub(r"\[\d{4}-\d\d-\d\dT[\d:.]+Z +\w+ +[\w:]+\] ", "", line)
    line = re.sub(r"familiar/demo/event [\d:.TZ-]+ demo", LEFT_OUT, line)
    line = re.sub(r"\b(sha256:[0-9a-f]{8})[0-9a-f]+", r"\1…", line)
    if len(line) <= WIDTH or "liveness is off" in line:
        return line
    return line[: WIDTH - 1] + "…"


def styled(line: str) -> Text:
    text = Text(line)
    if re.match(r"\d\. ", line):
        text.stylize("bold")
    elif line.startswith("$ "):
        text.stylize("bold cyan")
    text.highlight_regex(r"^ *(enroll|run|listen) \|", "blue")
    text.highlight_regex(r"\b(accepted|verified|no gaps|passed)\b", "green")
    text.highlight_regex(r"\b(recognized|departed|unknown)\b", "magenta")
    text.highlight_regex(r"\brefused\b", "red")
    text.highlight_regex(r"liveness is off.*|^NOTE:.*|^models/README.*", "yellow")
    return text


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    lines = Path(sys.argv[1]).read_text().splitlines()
    if "The demo passed." not in lines:
        sys.exit(f"{sys.argv[1]} holds no run that passed")
    # From the first step on: what came before is the set-up.
    lines = lines[next(i for i, line in enumerate(lines) if line.startswith("1. ")) :]
    shown = ["$ make demo"]
    for line in lines[: lines.index("The demo passed.") + 1]:
        if wanted(line):
            shown += [""] if re.match(r"\d\. |NOTE:|The demo", line) else []
            shown.append(shortened(line))
        elif line.startswith(("  enroll |", "     run |")) and shown[-1] != LEFT_OUT and "listen" not in shown[-1]:
            shown.append(LEFT_OUT)
    console = Console(record=True, width=WIDTH, file=io.StringIO())
    for line in shown:
        console.print(styled(line))
    svg = console.export_svg(title="", theme=THEME, code_format=FORMAT, unique_id="demo")
    Path(sys.argv[2]).write_text(re.sub(r" +\n", "\n", svg))


if __name__ == "__main__":
    main()
