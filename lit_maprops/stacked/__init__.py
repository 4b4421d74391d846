"""Everything with a seed dimension: networks, optimizer, random streams, ranks."""
