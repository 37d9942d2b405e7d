"""Raw pictures in, verified 256×256 shards out."""
