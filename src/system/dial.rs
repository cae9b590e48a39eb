//! Connecting to a name that has several addresses, after RFC 8305 ("Happy Eyeballs"): the families take
//! turns, an address that does not answer holds the next one up for a quarter of a second, each has time
//! of its own, and the first that works wins.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::plain::in_words;

/// Head start of an address over the next (RFC 8305, "Connection Attempt Delay").
const HEAD_START: Duration = Duration::from_millis(250);
/// How long one address may take.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How long the name may be looked up; resolvers ask several servers, each for five seconds.
const LOOK_UP: Duration = Duration::from_secs(20);
/// More addresses of one name are not tried.
const MOST: usize = 16;

/// Gives the addresses of a host, best first. It may block.
pub type Resolver = Arc<dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync>;

/// As this system resolves names.
pub fn system_resolver() -> Resolver {
    Arc::new(|host, port| Ok((host, port).to_socket_addrs()?.collect()))
}

/// Why no connection came to be.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error(
        "no address is known for {host} ({why}): check the name and this machine's name server, or write \
         its IP address instead"
    )]
    Name { host: String, why: String },
    #[error("{}", list(.host, .misses))]
    Unreachable { host: String, misses: Vec<Miss> },
}

/// An address that was tried in vain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Miss {
    pub address: SocketAddr,
    pub why: String,
}

impl Miss {
    pub fn new(address: SocketAddr, why: impl Into<String>) -> Self {
        Self { address, why: why.into() }
    }
}

/// Looks a name up.
pub async fn resolve(
    resolver: &Resolver,
    host: &str,
    port: u16,
) -> Result<Vec<SocketAddr>, DialError> {
    let failed = |why: String| DialError::Name { host: host.to_owned(), why };
    let (resolver, name) = (resolver.clone(), host.to_owned());
    let asked = tokio::task::spawn_blocking(move || resolver(&name, port));
    let addresses = timeout(LOOK_UP, asked)
        .await
        .map_err(|_| failed("the name server does not answer".to_owned()))?
        .unwrap_or_else(|_| Err(io::Error::other("the look-up failed")))
        .map_err(|error| failed(words(&error)))?;
    if addresses.is_empty() {
        return Err(failed("the name server knows none".to_owned()));
    }
    Ok(addresses)
}

/// One TCP connection.
pub async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Tries the addresses, staggered, and gives what the first success made; else why each of them failed,
/// in the order in which they were tried. `attempt` has [`PATIENCE`] for each.
pub async fn staggered<T, A, F>(
    addresses: &[SocketAddr],
    attempt: A,
) -> Result<(SocketAddr, T), Vec<Miss>>
where
    T: Send + 'static,
    A: Fn(SocketAddr) -> F,
    F: Future<Output = Result<T, String>> + Send + 'static,
{
    let order = interleaved(addresses);
    let mut waiting = order.clone();
    let mut running = JoinSet::new();
    let mut misses = Vec::new();
    let mut next = Instant::now();
    loop {
        if Instant::now() >= next
            && let Some(address) = waiting.pop_front()
        {
            let attempt = attempt(address);
            running.spawn(async move { (address, timeout(PATIENCE, attempt).await) });
            next = Instant::now() + HEAD_START;
        }
        tokio::select! {
            Some(done) = running.join_next(), if !running.is_empty() => match done {
                // The others are given up with the set.
                Ok((address, Ok(Ok(made)))) => return Ok((address, made)),
                Ok((address, Ok(Err(why)))) => {
                    misses.push(Miss::new(address, why));
                    // Nothing is gained by waiting for what has failed.
                    next = Instant::now();
                }
                Ok((address, Err(_))) => misses.push(Miss::new(address, silent(address))),
                Err(_) => next = Instant::now(),
            },
            () = sleep_until(next), if !waiting.is_empty() => {}
            else => break,
        }
    }
    misses.sort_by_key(|miss| order.iter().position(|address| *address == miss.address));
    Err(misses)
}

/// The families by turns, beginning with that of the first; each in the order given (RFC 8305, section 4).
fn interleaved(addresses: &[SocketAddr]) -> VecDeque<SocketAddr> {
    let mut seen = Vec::new();
    for address in addresses {
        if !seen.contains(address) {
            seen.push(*address);
        }
    }
    let first = seen.first().is_some_and(SocketAddr::is_ipv6);
    let (mut one, mut other): (VecDeque<_>, VecDeque<_>) =
        seen.into_iter().partition(|address| address.is_ipv6() == first);
    let mut order = VecDeque::new();
    while order.len() < MOST && !(one.is_empty() && other.is_empty()) {
        order.extend(one.pop_front());
        order.extend(other.pop_front());
    }
    order.truncate(MOST);
    order
}

/// What to say of an address that does not answer.
fn silent(address: SocketAddr) -> String {
    let silent = format!("no answer within {} s", PATIENCE.as_secs());
    // So systemd names a service's processes; outside of one no address rules hold.
    if std::env::var_os("INVOCATION_ID").is_some() && !is_near(address.ip()) {
        format!(
            "{silent}; the unit lets it speak to private networks only, until \
             public-broker.conf is installed: docs/operations.md"
        )
    } else {
        silent
    }
}

/// Whether an address is of this machine or a private network: what the unit's `IPAddressAllow=` names.
pub fn is_near(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            address.is_loopback() || address.is_private() || address.is_link_local()
        }
        IpAddr::V6(address) => {
            address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
        }
    }
}

/// An error of the network in a user's words.
pub fn words(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => "connection refused: nothing listens there".to_owned(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted => {
            "the connection was cut".to_owned()
        }
        ErrorKind::UnexpectedEof => "the connection was closed".to_owned(),
        ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable => "no route to it".to_owned(),
        ErrorKind::AddrNotAvailable => "this machine has no address of that kind".to_owned(),
        ErrorKind::TimedOut => "no answer".to_owned(),
        ErrorKind::PermissionDenied => "a rule of this machine forbids it".to_owned(),
        _ => {
            let text = error.to_string();
            // So the standard library begins; what follows says it.
            let why = text.strip_prefix("failed to lookup address information: ").unwrap_or(&text);
            in_words(why).into_owned()
        }
    }
}

/// Each reason once, with the addresses that it holds for; none for a host that is an address itself.
fn list(host: &str, misses: &[Miss]) -> String {
    let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
    for Miss { address, why } in misses {
        match reasons.iter_mut().find(|(known, _)| known == why) {
            Some((_, addresses)) => addresses.push(address.to_string()),
            None => reasons.push((why, vec![address.to_string()])),
        }
    }
    let literal = host.parse::<IpAddr>().is_ok();
    let say = |(why, addresses): &(&str, Vec<String>)| {
        if literal { (*why).to_owned() } else { format!("{}: {why}", addresses.join(" and ")) }
    };
    reasons.iter().map(say).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn families_take_turns_and_the_systems_first_choice_begins() {
        let given =
            addresses(&["[2001:db8::1]:1", "[2001:db8::2]:1", "192.0.2.1:1", "192.0.2.1:1"]);
        let order: Vec<_> = interleaved(&given).into();
        assert_eq!(order, addresses(&["[2001:db8::1]:1", "192.0.2.1:1", "[2001:db8::2]:1"]));
        let many: Vec<_> = (0..200).map(|n| SocketAddr::from(([192, 0, 2, n], 1))).collect();
        assert_eq!(interleaved(&many).len(), MOST);
    }

    /// Holds MQT-10.
    #[test]
    fn an_address_that_never_answers_holds_up_nobody() {
        let given = addresses(&["[2001:db8::1]:1", "192.0.2.1:1", "[2001:db8::2]:1"]);
        let live = given[2];
        let outcome = run(staggered(&given, |address| async move {
            if address == live {
                return Ok(());
            }
            std::future::pending::<()>().await;
            Err(String::new())
        }));
        assert_eq!(outcome, Ok((live, ())));
    }

    #[test]
    fn every_failure_is_told_with_its_address_in_order() {
        let given = addresses(&["[2001:db8::1]:1", "192.0.2.1:1"]);
        let outcome = run(staggered(&given, |address| async move {
            Err::<(), _>(format!("why {}", address.is_ipv6()))
        }));
        let misses = outcome.unwrap_err();
        let error = DialError::Unreachable { host: "broker.local".to_owned(), misses };
        assert_eq!(error.to_string(), "[2001:db8::1]:1: why true; 192.0.2.1:1: why false");
    }

    #[test]
    fn near_is_what_the_unit_allows() {
        for near in
            ["127.0.0.1", "::1", "10.1.2.3", "192.168.1.9", "169.254.1.1", "fe80::1", "fd00::1"]
        {
            assert!(is_near(near.parse().unwrap()), "{near}");
        }
        for far in ["8.8.8.8", "100.64.0.1", "2001:db8::1", "172.32.0.1", "::ffff:8.8.8.8"] {
            assert!(!is_near(far.parse().unwrap()), "{far}");
        }
    }

    #[test]
    fn errors_carry_no_numbers_of_the_system() {
        let text = "failed to lookup address information: Name or service not known (os error 2)";
        let resolver: Resolver = Arc::new(move |_, _| Err(io::Error::other(text)));
        let failed = run(resolve(&resolver, "nowhere.example", 1));
        let said = failed.unwrap_err().to_string();
        assert!(said.contains("nowhere.example (Name or service not known)"), "{said}");
    }
}
