"""How the pages of this server look, for apps that want to look alike. The same for everybody.

https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html#styling
"""

from __future__ import annotations

STYLES: dict[str, str] = {
    "color_background": "#ffffff",
    "color_error": "#b3261e",
    "color_highlight": "#0b5cad",
    "color_modal_backdrop": "#00000080",
    "color_success": "#1b6e3c",
    "color_text": "#1c1f23",
    "dim_border_radius": "6px",
    "dim_font_size": "16px",
    "dim_spacing_size": "20px",
    "font_family_body": "system-ui, sans-serif",
    "font_family_heading": "system-ui, sans-serif",
}
