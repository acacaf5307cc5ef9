package duty

import (
	"context"

	"github.com/cnitest/cnitest/e2e/cni"
)

// Runtime is a runtime on one node, as whoever calls it sees it. What it cannot do it says with Lacks, and is not asked
// for. Use and Restart are called while no operation runs; Run may be called by several goroutines.
type Runtime interface {
	// Name is the name of the runtime in results.
	Name() string
	// Lacks returns why the runtime cannot do something, for the reason of a result; empty if it can.
	Lacks(ability Ability) string
	// Use replaces the whole configuration of networks: the content of files, by their paths below the directory of the
	// conflists.
	Use(ctx context.Context, files map[string]string) error
	// Run asks the runtime for an operation and waits until it ends. What the runtime reports is in the answer; an
	// error says that it could not be asked.
	Run(ctx context.Context, op Operation) (Answer, error)
	// Restart ends the runtime and starts it again, if it has the ability Restarts.
	Restart(ctx context.Context) error
}

// Ability is something that not every runtime can do, or not when somebody asks.
type Ability string

// These are the abilities. Every runtime can be asked for ADD and DEL.
const (
	// CanCheck, CanGC and CanStatus: it can be asked for the verb.
	CanCheck  Ability = "CHECK"
	CanGC     Ability = "GC"
	CanStatus Ability = "STATUS"
	// TakesID, TakesName, TakesArgs and TakesCapabilities: it takes the fields ContainerID, IfName, Args and
	// Capabilities of an operation.
	TakesID           Ability = "container ids"
	TakesName         Ability = "interface names"
	TakesArgs         Ability = "arguments"
	TakesCapabilities Ability = "capability arguments"
	// TakesFolder: it reads files, and so could read a network's folder of plugins.
	TakesFolder Ability = "folders"
	// Restarts: it can be ended and started again, while attachments stay.
	Restarts Ability = "restarts"
	// Orders: it decides itself when plugins are called. A runtime that does each time what its caller says, at once,
	// leaves that to the caller.
	Orders Ability = "order"
)

// Operation is what a runtime is asked for.
type Operation struct {
	// Verb is one of cni.Add, Check, Del, GC and Status.
	Verb cni.Verb
	// Network is the name of the network.
	Network string
	// Pod names the container, uniquely on the node. The runtime makes an id of it, unless it takes ContainerID.
	Pod string
	// ContainerID is the id of the container if it is not empty.
	ContainerID string
	// IfName is the name of the interface; empty means the runtime's own.
	IfName string
	// Args are generic arguments, as keys and values.
	Args [][2]string
	// Capabilities are capability arguments.
	Capabilities map[string]any
	// Valid are the pods that are attached, for GC. A runtime that knows them itself ignores it.
	Valid []string
}

// Answer is what a runtime reports at the end of an operation.
type Answer struct {
	// Failed says that it reports an error.
	Failed bool
	// Text is what it says: a result or the error.
	Text string
}
