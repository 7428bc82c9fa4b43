"""pingone: how the API talks. Nobody outside this room knows a status code or a media type."""
