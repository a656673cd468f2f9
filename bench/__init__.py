"""Load drivers for the edge, and the comparison with what a site would install today: Kamailio, FreeRADIUS, slapd."""
