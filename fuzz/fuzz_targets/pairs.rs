#![no_main]
familiar_fuzz::fuzz!(pairs);
