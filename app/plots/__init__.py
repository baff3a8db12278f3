"""Draw what was measured as SVG: pure functions of the numbers, one set of figures for pages, reports and exports."""
