pub(crate) mod redis;
pub(crate) mod wait;
