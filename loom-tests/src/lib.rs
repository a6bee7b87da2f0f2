//! Nothing here: the models are in `tests/`, and `README.md` says what each of them proves.
