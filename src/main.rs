fn main() -> std::process::ExitCode {
    familiar::cli::main()
}
