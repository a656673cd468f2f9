"""The web side of the edge: health, metrics and the JSON API. Asks and commands `ports.Console` only."""
