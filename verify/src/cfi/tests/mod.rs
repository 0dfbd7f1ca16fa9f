mod oracle;
mod states;
