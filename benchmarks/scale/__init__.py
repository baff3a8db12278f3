"""How far one node, one database and one worker go: a large registry, a long queue, many followers."""
