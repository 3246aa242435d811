"""How Sphinx builds the site: Markdown, links and anchors checked, no word from elsewhere."""

from pathlib import Path
from typing import Final

project: Final = "Weft"
extensions: Final = ["myst_parser"]
source_suffix: Final = {".md": "markdown"}
root_doc: Final = "index"
language: Final = "en"

#: Anchors as GitHub makes them: `#how-an-instance-leaves`.
myst_heading_anchors: Final = 4

html_theme: Final = "weft"
html_theme_path: Final = [str(Path(__file__).resolve().parent / "themes")]
html_title: Final = "Weft"
html_copy_source: Final = False
html_show_sourcelink: Final = False
html_show_sphinx: Final = False
html_show_copyright: Final = False
html_use_index: Final = False
html_domain_indices: Final = False
#: Text stays as it was typed: commands have straight quotes and two dashes.
smartquotes: Final = False
pygments_style: Final = "default"
