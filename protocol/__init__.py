"""The language of the house: values and rules, on the standard library and pydantic alone."""
