package broker

// outFrame is one response under construction.
type outFrame struct {
	// version is the request's, which the response is encoded for.
	version int16
	buf     []byte
}
