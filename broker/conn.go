package broker

// conn is one client connection.
type conn struct{}
