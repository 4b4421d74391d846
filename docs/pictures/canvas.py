"""Just enough SVG for the pictures of the method: text, boxes and lines on a white sheet that fits a phone."""

from html import escape

WIDTH = 480  # at 340 pixels, a phone's column, letters of 14 are still 10 high
INK, MUTED, LINE, PAPER = "#212121", "#616161", "#bdbdbd", "#ffffff"
COLORS = {
    "OnPolicy": "#757575",
    "PROPS": "#e65100",
    "MAPROPS": "#00796b",
    "TabularMAPROPS": "#3949ab",
    "pi_theta": "#9e9e9e",
}


class Canvas:
    """A sheet that is drawn on from top to bottom.

    Args:
        height: of the sheet; it is ``WIDTH`` wide.
        title: what the picture shows, for readers that do not see it.
    """

    def __init__(self, height: float, title: str) -> None:
        self.height, self.title = height, title
        self.parts: list[str] = []

    def text(
        self,
        x: float,
        y: float,
        words: str,
        size: int = 14,
        anchor: str = "start",
        color: str = INK,
        bold: bool = False,
    ) -> None:
        """Write one line whose baseline is at y."""
        look = f'font-size="{size}" text-anchor="{anchor}" fill="{color}"' + ' font-weight="600"' * bold
        self.parts.append(f'<text x="{x:g}" y="{y:g}" {look}>{escape(words)}</text>')

    def box(
        self, x: float, y: float, width: float, height: float, fill: str, opacity: float = 1.0, edge: str = "none"
    ) -> None:
        """Fill a rectangle."""
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="3" fill="{fill}" '
            f'fill-opacity="{opacity:.3g}" stroke="{edge}"/>'
        )

    def line(self, points: list[tuple[float, float]], color: str = LINE, width: float = 1.0, dashes: str = "") -> None:
        """Join points."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="{width:g}"{dashed}/>')

    def band(self, low: list[tuple[float, float]], high: list[tuple[float, float]], fill: str) -> None:
        """Fill what is between two lines."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in [*low, *high[::-1]])
        self.parts.append(f'<polygon points="{path}" fill="{fill}" fill-opacity="0.2"/>')

    def dot(self, x: float, y: float, color: str, radius: float = 4.0) -> None:
        """Mark a point."""
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" fill="{color}"/>')

    def arrow(self, x: float, y: float, to_x: float, to_y: float, color: str = MUTED) -> None:
        """A line with a head at its end; straight down or to the right."""
        self.line([(x, y), (to_x, to_y)], color, 1.5)
        across = [(to_x - 6, to_y - 4), (to_x, to_y), (to_x - 6, to_y + 4)]
        down = [(to_x - 4, to_y - 6), (to_x, to_y), (to_x + 4, to_y - 6)]
        self.line(across if to_x > x else down, color, 1.5)

    def svg(self) -> str:
        """The file."""
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self.height:g}" width="{WIDTH}" '
                f'height="{self.height:g}" role="img" font-family="Helvetica, Arial, sans-serif">',
                f"<title>{escape(self.title)}</title>",
                f'<rect width="{WIDTH}" height="{self.height:g}" rx="6" fill="{PAPER}"/>',
                *self.parts,
                "</svg>",
                "",
            ]
        )
