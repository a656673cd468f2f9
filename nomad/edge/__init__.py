"""The service: decides what happens to each request. Async, without sockets, SQL or RADIUS; sees ports only."""
