//! Publishing, by several processes that are killed, held up and misled in every order that a seed can say.

mod damaged;
mod simulation;
