"""What we do: activate the tokens of a shipment, one record a task."""
