package scenario

// These are the values of Lease.Is.
const (
	// LeaseHeld is a lease that has not expired, LeaseRenewed one that was renewed again and again for three lease
	// times.
	LeaseHeld    = "held"
	LeaseRenewed = "renewed"
	// LeaseReleased is one that the client gave back.
	LeaseReleased = "released"
)

// Lease asserts what the lab's DHCP server knows about the address that the last ADD gave a pod.
type Lease struct {
	Of string `yaml:"of"`
	// Is is one of the constants above.
	Is string `yaml:"is"`
	// As is the interface; empty means eth0.
	As string `yaml:"as"`
}

// lease checks a step that asserts a lease.
func (t *stepChecker) lease(path string, l Lease) {
	t.oneOf(path+".is", "is", l.Is, LeaseHeld, LeaseRenewed, LeaseReleased)
	t.place(path+".of", l.Of, PodPlace)
}
