#![no_main]
familiar_fuzz::fuzz!(signed_messages);
