#![no_main]
familiar_fuzz::fuzz!(recording);
