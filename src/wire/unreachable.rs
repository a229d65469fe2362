//! Why a connection could not be made, in words that say what to do.

use std::error::Error;

use rustls::CertificateError;

/// Why a server cannot be reached, from the error of a transport. A problem with certificates is told apart,
/// since no waiting helps against it.
pub fn reason(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(reason) = tls(cause) {
            return reason;
        }
        // The outer ones only say that there is an inner one.
        text = cause.to_string();
        next = cause.source();
    }
    text
}

/// Whether the error is one of certificates or of a handshake.
pub fn is_tls(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(cause) = next {
        if tls(cause).is_some() {
            return true;
        }
        next = cause.source();
    }
    false
}

fn tls(cause: &(dyn Error + 'static)) -> Option<String> {
    let found = match cause.downcast_ref::<std::io::Error>() {
        // It holds its cause without naming it as its source.
        Some(io) => io.get_ref()?.downcast_ref::<rustls::Error>()?,
        None => cause.downcast_ref::<rustls::Error>()?,
    };
    Some(words(found))
}

fn words(error: &rustls::Error) -> String {
    use rustls::Error as Tls;
    let text = match error {
        Tls::InvalidCertificate(problem) => match problem {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "its certificate is not from an authority that is trusted here; name the right one with --ca-file"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "its certificate is for another name; use a name of the certificate in the address"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has expired, or the clock of this machine is wrong"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not valid yet, or the clock of this machine is wrong"
            }
            other => return format!("its certificate is none that a server may show ({other:?})"),
        },
        Tls::InvalidMessage(_) => {
            "it does not answer with TLS; is its address one that begins with http:// ?"
        }
        other => return format!("the TLS handshake failed: {other}"),
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_problem_is_found_within_and_said_plainly() {
        let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let io = std::io::Error::new(std::io::ErrorKind::InvalidData, unknown);
        assert!(is_tls(&io));
        assert!(reason(&io).contains("--ca-file"), "{}", reason(&io));
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        assert!(!is_tls(&refused));
        assert_eq!(reason(&refused), refused.to_string());
    }
}
