package chain

import (
	"fmt"

	"github.com/containernetworking/cni/pkg/types"
)

// BadConfig returns an error with code 7: the configuration has to change before a call can succeed. It takes the same
// arguments as fmt.Errorf.
func BadConfig(format string, args ...any) *types.Error {
	return newError(types.ErrInvalidNetworkConfig, format, args...)
}

// BadEnvironment returns an error with code 4: a CNI_* variable is wrong. SPEC.md, Error: the message must name it.
func BadEnvironment(format string, args ...any) *types.Error {
	return newError(types.ErrInvalidEnvironmentVariables, format, args...)
}

// TryAgain returns an error with code 11: the same call may succeed later.
func TryAgain(format string, args ...any) *types.Error {
	return newError(types.ErrTryAgainLater, format, args...)
}

// NotAvailable returns an error with code 50: the node is not in a state in which ADD can succeed.
func NotAvailable(format string, args ...any) *types.Error {
	return newError(types.ErrPluginNotAvailable, format, args...)
}

// Disconnected returns an error with code 51: ADD cannot succeed, and attached pods are cut off, too.
func Disconnected(format string, args ...any) *types.Error {
	return newError(types.ErrLimitedConnectivity, format, args...)
}

func newError(code uint, format string, args ...any) *types.Error {
	return types.NewError(code, fmt.Errorf(format, args...).Error(), "")
}
