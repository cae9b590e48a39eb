#![no_main]
familiar_fuzz::fuzz!(key_set);
