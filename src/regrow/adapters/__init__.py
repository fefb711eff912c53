"""Everything that touches the world: databases, brokers, files, people."""
