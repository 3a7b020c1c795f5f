"""Key policies as plain documents: build them, read them, evaluate their conditions."""
