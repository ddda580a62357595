//! The directory of a federation: with TUF clients that others wrote, on any static web server; and its
//! commands, as those use them who keep it.

mod authority;
mod commands;
mod embedded;
mod endpoint;
mod followed;
mod keeper;
mod others;
mod push;
mod serving;
mod sites;
