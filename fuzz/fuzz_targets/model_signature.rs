#![no_main]
familiar_fuzz::fuzz!(model_signature);
