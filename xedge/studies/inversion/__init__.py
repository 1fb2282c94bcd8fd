"""From which utilisation on a pooled cloud beats edge boxes, measured beside the exact theory."""
