"""The demo: an embedded PBX and softphone on aiosipua, sample people and policy, and the scenario that plays them."""
