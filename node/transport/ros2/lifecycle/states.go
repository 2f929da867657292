package lifecycle

import (
	"fmt"

	"github.com/stllm/stllm/msgs"
)

// State is one of lifecycle_msgs/State: the primary ones, in which a node rests, and those that it is in during a transition.
type State uint8

// The states that a node rests in.
const (
	Unknown      = State(msgs.LifecycleStatePrimaryStateUnknown)
	Unconfigured = State(msgs.LifecycleStatePrimaryStateUnconfigured)
	Inactive     = State(msgs.LifecycleStatePrimaryStateInactive)
	Active       = State(msgs.LifecycleStatePrimaryStateActive)
	Finalized    = State(msgs.LifecycleStatePrimaryStateFinalized)
)

// The states of transitions that run.
const (
	Configuring     = State(msgs.LifecycleStateTransitionStateConfiguring)
	CleaningUp      = State(msgs.LifecycleStateTransitionStateCleaningup)
	ShuttingDown    = State(msgs.LifecycleStateTransitionStateShuttingdown)
	Activating      = State(msgs.LifecycleStateTransitionStateActivating)
	Deactivating    = State(msgs.LifecycleStateTransitionStateDeactivating)
	ErrorProcessing = State(msgs.LifecycleStateTransitionStateErrorprocessing)
)

// states in the order in which rcl_lifecycle registers them.
var states = []struct {
	id    State
	label string
}{
	{Unknown, "unknown"}, {Unconfigured, "unconfigured"}, {Inactive, "inactive"}, {Active, "active"}, {Finalized, "finalized"},
	{Configuring, "configuring"}, {CleaningUp, "cleaningup"}, {ShuttingDown, "shuttingdown"}, {Activating, "activating"},
	{Deactivating, "deactivating"}, {ErrorProcessing, "errorprocessing"},
}

// String is the label that ROS 2 gives the state.
func (s State) String() string {
	for _, known := range states {
		if known.id == s {
			return known.label
		}
	}
	return fmt.Sprintf("state %d", uint8(s))
}

func (s State) message() msgs.LifecycleState {
	return msgs.LifecycleState{ID: uint8(s), Label: s.String()}
}

// Labels of transitions. Shutdown has one label and three numbers, by the state that it starts from.
const (
	Configure  = "configure"
	Cleanup    = "cleanup"
	Activate   = "activate"
	Deactivate = "deactivate"
	Shutdown   = "shutdown"

	success = "transition_success"
	failure = "transition_failure"
	broken  = "transition_error"
)

// transition is one edge of the state machine.
type transition struct {
	id       uint8
	label    string
	from, to State
}

// transitions is rcl_lifecycle's default state machine (default_state_machine.c), in its order.
var transitions = []transition{
	{msgs.LifecycleTransitionTransitionConfigure, Configure, Unconfigured, Configuring},
	{msgs.LifecycleTransitionTransitionOnConfigureSuccess, success, Configuring, Inactive},
	{msgs.LifecycleTransitionTransitionOnConfigureFailure, failure, Configuring, Unconfigured},
	{msgs.LifecycleTransitionTransitionOnConfigureError, broken, Configuring, ErrorProcessing},
	{msgs.LifecycleTransitionTransitionCleanup, Cleanup, Inactive, CleaningUp},
	{msgs.LifecycleTransitionTransitionOnCleanupSuccess, success, CleaningUp, Unconfigured},
	{msgs.LifecycleTransitionTransitionOnCleanupFailure, failure, CleaningUp, Inactive},
	{msgs.LifecycleTransitionTransitionOnCleanupError, broken, CleaningUp, ErrorProcessing},
	{msgs.LifecycleTransitionTransitionActivate, Activate, Inactive, Activating},
	{msgs.LifecycleTransitionTransitionOnActivateSuccess, success, Activating, Active},
	{msgs.LifecycleTransitionTransitionOnActivateFailure, failure, Activating, Inactive},
	{msgs.LifecycleTransitionTransitionOnActivateError, broken, Activating, ErrorProcessing},
	{msgs.LifecycleTransitionTransitionDeactivate, Deactivate, Active, Deactivating},
	{msgs.LifecycleTransitionTransitionOnDeactivateSuccess, success, Deactivating, Inactive},
	{msgs.LifecycleTransitionTransitionOnDeactivateFailure, failure, Deactivating, Active},
	{msgs.LifecycleTransitionTransitionOnDeactivateError, broken, Deactivating, ErrorProcessing},
	{msgs.LifecycleTransitionTransitionUnconfiguredShutdown, Shutdown, Unconfigured, ShuttingDown},
	{msgs.LifecycleTransitionTransitionInactiveShutdown, Shutdown, Inactive, ShuttingDown},
	{msgs.LifecycleTransitionTransitionActiveShutdown, Shutdown, Active, ShuttingDown},
	{msgs.LifecycleTransitionTransitionOnShutdownSuccess, success, ShuttingDown, Finalized},
	{msgs.LifecycleTransitionTransitionOnShutdownFailure, failure, ShuttingDown, Finalized},
	{msgs.LifecycleTransitionTransitionOnShutdownError, broken, ShuttingDown, ErrorProcessing},
	{msgs.LifecycleTransitionTransitionOnErrorSuccess, success, ErrorProcessing, Unconfigured},
	{msgs.LifecycleTransitionTransitionOnErrorFailure, failure, ErrorProcessing, Finalized},
	{msgs.LifecycleTransitionTransitionOnErrorError, broken, ErrorProcessing, Finalized},
}

func (t transition) message() msgs.LifecycleTransition {
	return msgs.LifecycleTransition{ID: t.id, Label: t.label}
}

func (t transition) description() msgs.LifecycleTransitionDescription {
	return msgs.LifecycleTransitionDescription{Transition: t.message(), StartState: t.from.message(), GoalState: t.to.message()}
}

// descriptions lists transitions from a state; from all states when that is Unknown, which has none.
func descriptions(from State) []msgs.LifecycleTransitionDescription {
	var list []msgs.LifecycleTransitionDescription
	for _, t := range transitions {
		if from == Unknown || t.from == from {
			list = append(list, t.description())
		}
	}
	return list
}

// resting tells whether a node stays in a state until it is told to change.
func (s State) resting() bool { return s <= Finalized }

// next finds the edge from a state by label, or by number where the label is empty.
func next(from State, id uint8, label string) (transition, bool) {
	for _, t := range transitions {
		if t.from == from && (label != "" && t.label == label || label == "" && t.id == id) {
			return t, true
		}
	}
	return transition{}, false
}
