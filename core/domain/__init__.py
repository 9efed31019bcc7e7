"""Pure values of the domain: numbers, identities, errors, books. No I/O, no clock, no randomness."""
