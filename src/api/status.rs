// SPDX-License-Identifier: Apache-2.0
//! The code that each kind of error has on the wire: one table for both protocols, whose codes are the same numbers.

use tonic::Code;

use crate::error::{Error, ErrorKind};

/// The code that tells a client what kind of error it was.
fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::AlreadyExists => Code::AlreadyExists,
        ErrorKind::InvalidInput | ErrorKind::InvalidManifest | ErrorKind::Escape => Code::InvalidArgument,
        ErrorKind::FailedPrecondition => Code::FailedPrecondition,
        ErrorKind::Corrupt => Code::DataLoss,
        ErrorKind::Changed => Code::Aborted,
        ErrorKind::Unsupported => Code::Unimplemented,
        ErrorKind::Cancelled => Code::Cancelled,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::Io => Code::Internal,
    }
}

/// An error for containerd. A failed system call is internal whatever its errno: a missing directory must not look
/// like a missing snapshot, which containerd would take at its word.
pub fn grpc(error: &Error) -> tonic::Status {
    let code = if error.errno().is_some() { Code::Internal } else { code(error.kind()) };
    tonic::Status::new(code, error.to_string())
}

/// An error for a client of the light protocol, which may have named the path that a system call failed on.
pub fn ttrpc(error: Error) -> ttrpc::Error {
    let code = protobuf::Enum::from_i32(code(error.kind()).into()).unwrap_or(ttrpc::Code::UNKNOWN);
    ttrpc::Error::RpcStatus(ttrpc::get_status(code, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_code_in_both_protocols() {
        for (kind, code, light) in [
            (ErrorKind::NotFound, Code::NotFound, ttrpc::Code::NOT_FOUND),
            (ErrorKind::AlreadyExists, Code::AlreadyExists, ttrpc::Code::ALREADY_EXISTS),
            (ErrorKind::InvalidInput, Code::InvalidArgument, ttrpc::Code::INVALID_ARGUMENT),
            (ErrorKind::InvalidManifest, Code::InvalidArgument, ttrpc::Code::INVALID_ARGUMENT),
            (ErrorKind::Corrupt, Code::DataLoss, ttrpc::Code::DATA_LOSS),
            (ErrorKind::FailedPrecondition, Code::FailedPrecondition, ttrpc::Code::FAILED_PRECONDITION),
            (ErrorKind::Escape, Code::InvalidArgument, ttrpc::Code::INVALID_ARGUMENT),
            (ErrorKind::Changed, Code::Aborted, ttrpc::Code::ABORTED),
            (ErrorKind::Unsupported, Code::Unimplemented, ttrpc::Code::UNIMPLEMENTED),
            (ErrorKind::Cancelled, Code::Cancelled, ttrpc::Code::CANCELLED),
            (ErrorKind::Unavailable, Code::Unavailable, ttrpc::Code::UNAVAILABLE),
            (ErrorKind::Io, Code::Internal, ttrpc::Code::INTERNAL),
        ] {
            let status = grpc(&Error::new(kind, "message"));
            assert_eq!((status.code(), status.message()), (code, "message"), "{kind:?}");
            let ttrpc::Error::RpcStatus(status) = ttrpc(Error::new(kind, "message")) else { panic!("{kind:?}") };
            assert_eq!((status.code(), status.message.as_str()), (light, "message"), "{kind:?}");
        }
    }

    #[test]
    fn a_failed_system_call_is_no_answer_about_a_snapshot() {
        let missing = || Error::io("open", "/x", std::io::Error::from_raw_os_error(2));
        assert_eq!((missing().kind(), grpc(&missing()).code()), (ErrorKind::NotFound, Code::Internal));
        let ttrpc::Error::RpcStatus(status) = ttrpc(missing()) else { panic!("no status") };
        assert_eq!(status.code(), ttrpc::Code::NOT_FOUND);
    }
}
