"""Pure: which objects are new data, when a rule fires, what becomes of arrivals and retrainings. No cloud, no clock."""
