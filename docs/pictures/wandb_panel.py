"""Draws what W&B's panel of all seeds shows, from a run's offline W&B run alone.

``python -m docs.pictures.wandb_panel RUN`` writes wandb_panel.svg beside it. The rows, and which column is on which
axis, are read from what ``wandb sync`` would send. W&B keeps its chart ``wandb/lineseries/v0`` on its servers; the
Vega-Lite here draws the same marks: a line per key over the step.
"""

import sys
from pathlib import Path
from typing import Any

from docs.pictures import wandb_store
from docs.pictures.canvas import MUTED
from lit_maprops.metrics.each_seed import LINES

PICTURE = Path(__file__).parent / "wandb_panel.svg"


def chart(folder: Path) -> dict[str, Any]:
    """The panel as Vega-Lite with its rows.

    Args:
        folder: of a run with an offline W&B run.
    """
    setup = wandb_store.panel(folder, LINES)
    fields, texts = setup["fieldSettings"], setup["stringSettings"]
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "title": texts["title"],
        "width": 380,
        "height": 210,
        "data": {"values": wandb_store.table(folder, f"{LINES}_table")},
        "mark": {"type": "line", "strokeWidth": 1.3, "opacity": 0.75},
        "encoding": {
            "x": {"field": fields["step"], "type": "quantitative", "title": texts["xname"]},
            "y": {"field": fields["lineVal"], "type": "quantitative", "title": None},
            "color": {
                "field": fields["lineKey"],
                "type": "nominal",
                "sort": None,
                "scale": {"scheme": "tableau20"},
                "legend": {"title": fields["lineKey"], "columns": 2},
            },
        },
        "config": {"view": {"stroke": None}, "axis": {"gridColor": "#eeeeee", "titleColor": MUTED}},
    }


if __name__ == "__main__":
    import vl_convert

    PICTURE.write_text(vl_convert.vegalite_to_svg(chart(Path(sys.argv[1]))))
