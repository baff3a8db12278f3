"""Networks in Keras: the only code that imports it. Keras takes seconds to import, so nothing here does before use."""
