"""RADIUS dictionaries as package data of `radius.dictionaries`; read by `radius.dictionary`, usable by FreeRADIUS."""
