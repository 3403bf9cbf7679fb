//! A stand-in for the provider.
