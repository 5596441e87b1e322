#pragma once
// The contract of every kernel; it lives in base, since base/team.h runs it.
#include "base/job.h"
